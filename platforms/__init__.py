"""Platforms and executors: the places where jobs run. A platform is passed to jobs as an argument; none is global."""
