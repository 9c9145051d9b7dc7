"""Where a job runs. A platform is passed to jobs as an argument; none is global."""
