"""The command line: one thin module per subcommand, which parses, calls and prints."""
