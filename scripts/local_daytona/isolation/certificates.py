"""Which certificate authorities a sandbox trusts: the host's, and those of our own environment."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

# Inside, where OpenSSL, Go and Debian's programs look.
CA_BUNDLE = "etc/ssl/certs/ca-certificates.crt"
SYSTEM_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
CERTIFICATE_VARIABLES = (
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
)
# And no key beside it.
CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")
LARGEST_BUNDLE = 8 * 1024 * 1024


def add_certificates(
    template: Path, environment: Mapping[str, str], system: Sequence[str] = SYSTEM_BUNDLES
) -> None:
    """Write the template's bundle; without any certificate there is none."""
    hosts = next(filter(None, map(bundle, system)), b"")
    added = [bundle(environment.get(name, "")) for name in CERTIFICATE_VARIABLES]
    text = b"\n".join([hosts, *added]).replace(b"\r", b"")
    certificates = list(dict.fromkeys(CERTIFICATE.findall(text)))
    if not certificates:
        return
    target = template / CA_BUNDLE
    if target.parent.is_symlink() and not is_folder_of(template, target.parent):
        target.parent.unlink()  # it means a folder of the host, which is not ours to write
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    target.write_bytes(b"\n".join(certificates) + b"\n")
    target.chmod(0o644)


def bundle(path: str) -> bytes:
    """A file of a bundle's size; nothing for any other path."""
    with contextlib.suppress(OSError):
        if os.path.isfile(path) and os.path.getsize(path) <= LARGEST_BUNDLE:
            return Path(path).read_bytes()
    return b""


def is_folder_of(template: Path, folder: Path) -> bool:
    return folder.is_dir() and folder.resolve().is_relative_to(template.resolve())


def has_certificates(template: Path) -> bool:
    return (template / CA_BUNDLE).exists()
