"""What tools record about how a picture was generated: one module a tool, and the lists beside pictures."""
