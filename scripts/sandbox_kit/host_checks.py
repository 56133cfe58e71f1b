"""Frameworks that refuse a link's host: how their refusal looks, and what to set."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

# What the answer holds, whose it is, what to set; {hosts} is a pattern, {host} the link's own.
HOST_CHECKS = (
    (r"DisallowedHost|Invalid HTTP_HOST header", "Django", "ALLOWED_HOSTS = ['{hosts}']"),
    (r"<h1>Bad Request \(400\)</h1>", "Django", "ALLOWED_HOSTS = ['{hosts}']"),
    (
        r"Blocked request\. This host",
        "Vite",
        "server.allowedHosts: ['{hosts}'] in vite.config (preview.allowedHosts for vite preview)",
    ),
    (
        r"Invalid Host(/Origin)? header",
        "webpack-dev-server",
        "devServer.allowedHosts: ['{hosts}']"
        " (create-react-app: DANGEROUSLY_DISABLE_HOST_CHECK=true)",
    ),
    (
        r"Blocked hosts?:",
        "Rails",
        "config.hosts << '{hosts}' in config/environments/development.rb",
    ),
    (r"^Invalid host header", "Starlette or FastAPI", "allowed_hosts of TrustedHostMiddleware"),
    (r"Bad Request - Invalid Hostname", "ASP.NET", "AllowedHosts: '{host}' in appsettings.json"),
)
NEXT = "Next's dev server", "allowedDevOrigins: ['{host}'] in next.config"
NEXT_SIGN = r"(?i)^x-powered-by: *next\.js|/_next/static/"
NEXT_PATH = "/_next/static/chunks/a-look.js"  # missing: 404, or 403 where the origin is refused


def find_host_check(answer: str, link: str) -> str | None:
    """Who refuses the link's host and what to set, from the beginning of its answer."""
    body = answer.partition("\n\n")[2]
    for sign, whose, setting in HOST_CHECKS:
        if re.search(sign, body):
            return describe_host_check(whose, setting, link)
    return None


def describe_host_check(whose: str, setting: str, link: str) -> str:
    host = urlsplit(link).hostname or ""
    hosts = f".{host.partition('.')[2]}" if re.search(r"[a-z]\.[a-z]", host) else host
    return f"{whose} refuses the link's host: set {setting.format(host=host, hosts=hosts)}"
