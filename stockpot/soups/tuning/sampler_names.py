"""The names of Optuna's samplers in params.yaml; importing them imports no Optuna."""

BUILT_IN_SAMPLERS = ("tpe", "gp", "cmaes", "nsga2", "nsga3", "random", "qmc")
