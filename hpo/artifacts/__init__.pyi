from .base import ArtifactStore as ArtifactStore
from .base import check_name as check_name
from .folder import FolderStore as FolderStore
from .registry import open_artifacts as open_artifacts
