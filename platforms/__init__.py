"""Where a job runs: this process, several GPUs, a cluster. A platform is handed to jobs; none is global."""
