"""What processes do for one another: replies that a page asks a worker for, chats, servers."""
