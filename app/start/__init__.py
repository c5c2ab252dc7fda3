"""Starting and ending the program: arguments, single instance, crash dialog, unattended runs."""
