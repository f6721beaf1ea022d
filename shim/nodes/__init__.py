"""Proxmox hosts: what they have, what is placed on them, which one a new pod gets."""
