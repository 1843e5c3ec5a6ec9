"""What hubs know, for agents that speak the Model Context Protocol: tools over the calls of `/v1`.

Each tool is one of those calls under another name, with the same keys, permissions, limits and quotas.
"""
