"""RAFT: data refinement and adaptive distillation for domain fine-tuning with little forgetting.

The core knows nothing of Prefect or MLflow. Every stage is a pure function from a resolved
specification and input artifacts to an artifact folder: `python -m raft_core STAGE --spec ... `.
"""

__version__ = "0.1.0"
