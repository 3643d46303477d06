"""Writers of findings: for people (`page`, `terminal`) and for programs (`jsonl`, `spreadsheet`)."""
