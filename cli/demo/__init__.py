"""The demonstration: broker, cloud, gateways and devices as processes of this machine, watched and counted."""
