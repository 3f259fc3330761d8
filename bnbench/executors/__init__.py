"""Where jobs are trained: this machine's processes, a cluster, a queue. Each executor in a file of its own."""
