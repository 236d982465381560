import pytest

from hpo.errors import InputError
from hpo.web.address import host_names, resolve
from hpo.web.dashboard import DashboardOptions


@pytest.mark.parametrize("writable", [False, True])
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7"])
def test_address_that_other_machines_reach_needs_a_password(host: str, writable: bool) -> None:
    address = resolve(host, 0)
    names = host_names(address, [])
    with pytest.raises(InputError, match=rf"^--host {host}: other machines .* HPO_DASHBOARD_PASSWORD_FILE"):
        DashboardOptions(address=address, names=names, writable=writable)
    DashboardOptions(address=address, names=names, writable=writable, password="secret")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_loopback_address_needs_no_password(host: str) -> None:
    address = resolve(host, 0)
    DashboardOptions(address=address, names=host_names(address, []), writable=True)
