"""The SDK's generated classes that every run needs.

The only module that costs time to import: 0.3 s, half of what AsyncDaytona costs. `daytona` pins
the packages of its generated clients to its own version, so they are part of what `skill_env`
checks.
"""

from daytona_api_client_async.api.sandbox_api import SandboxApi
from daytona_api_client_async.api_client import ApiClient
from daytona_api_client_async.configuration import Configuration
from daytona_api_client_async.exceptions import ApiException
from daytona_api_client_async.models.create_build_info import CreateBuildInfo
from daytona_api_client_async.models.create_sandbox import CreateSandbox
from daytona_api_client_async.models.sandbox import Sandbox
from daytona_api_client_async.models.sandbox_list_item import SandboxListItem
from daytona_api_client_async.models.sandbox_volume import SandboxVolume
from daytona_api_client_async.models.update_sandbox_network_settings import (
    UpdateSandboxNetworkSettings,
)
from daytona_toolbox_api_client_async.api.file_system_api import FileSystemApi
from daytona_toolbox_api_client_async.api.process_api import ProcessApi
from daytona_toolbox_api_client_async.api_client import ApiClient as ToolboxApiClient
from daytona_toolbox_api_client_async.configuration import Configuration as ToolboxConfiguration
from daytona_toolbox_api_client_async.models.create_session_request import CreateSessionRequest
from daytona_toolbox_api_client_async.models.execute_request import ExecuteRequest
from daytona_toolbox_api_client_async.models.session_execute_request import SessionExecuteRequest

__all__ = [
    "ApiClient",
    "ApiException",
    "Configuration",
    "CreateBuildInfo",
    "CreateSandbox",
    "CreateSessionRequest",
    "ExecuteRequest",
    "FileSystemApi",
    "ProcessApi",
    "Sandbox",
    "SandboxApi",
    "SandboxListItem",
    "SandboxVolume",
    "SessionExecuteRequest",
    "ToolboxApiClient",
    "ToolboxConfiguration",
    "UpdateSandboxNetworkSettings",
]
