"""The server: REST API and the artists' pages over one index (`detector serve`). Needs the extra ``server``."""
