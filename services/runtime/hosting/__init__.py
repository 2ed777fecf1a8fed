"""What a process of a service is put together from, and how it is started."""
