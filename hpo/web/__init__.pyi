from .dashboard import DashboardOptions as DashboardOptions
from .dashboard import serve as serve
