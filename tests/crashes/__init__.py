"""The whole product as processes, under load, while they are killed and stopped at random; then an observer looks."""
