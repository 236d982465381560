from .folder import ArtifactFolder as ArtifactFolder
