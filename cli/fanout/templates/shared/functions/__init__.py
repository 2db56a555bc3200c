"""The functions of this project. `fanout.toml` names this package: every module in it is loaded."""
