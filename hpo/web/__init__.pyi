from .dashboard import serve as serve
