from .export.bundle import Bundle as Bundle
from .export.bundle import load_bundle as load_bundle
