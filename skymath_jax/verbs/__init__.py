"""One function per verb: takes the command line from the verb on, returns an exit code. `cli.VERBS` names them all."""
