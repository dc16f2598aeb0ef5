"""What can be seen from outside: metrics that outlive a process, and logs."""
