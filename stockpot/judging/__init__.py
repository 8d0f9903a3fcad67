"""The verdict: models judged on test and the test shifts, which are opened here alone."""
