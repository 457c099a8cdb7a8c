//! Linux network namespaces, netlink and sysctls behind safe types.
