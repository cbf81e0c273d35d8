"""Accounts, zones and tokens of the simulated Cloudflare, new for each check, so that checks see nothing of each other."""

import uuid


class CloudflareAccount:
    """An account made through the control routes."""

    def __init__(self, simulator):
        self.simulator = simulator
        self.name = f"check-{uuid.uuid4().hex[:12]}"
        self.id = simulator.control("POST", "/cloudflare/accounts", {"name": self.name})["id"]

    def new_zone(self, plan):
        """The id and the domain of a new zone."""
        domain = f"{uuid.uuid4().hex[:12]}.example"
        spec = {"name": domain, "plan": plan, "account": self.name}
        return self.simulator.control("POST", "/cloudflare/zones", spec)["id"], domain

    def new_token(self, dns_write=True, permissions=(), **more):
        """A token that may read zones and DNS, write DNS unless told otherwise, and what else is asked for."""
        value = uuid.uuid4().hex
        permissions = ["zone:read", "dns:write" if dns_write else "dns:read", *permissions]
        spec = {"value": value, "account": self.name, "permissions": permissions, **more}
        self.simulator.control("POST", "/cloudflare/tokens", spec)
        return value
