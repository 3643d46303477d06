"""A custom node for ComfyUI: copy this folder into ComfyUI's `custom_nodes/`. README.md says how."""

from .replication_check import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS, ReplicationCheck

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "ReplicationCheck"]
