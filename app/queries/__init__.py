"""What pages ask: tables read once for all sessions, and what is computed from them."""
