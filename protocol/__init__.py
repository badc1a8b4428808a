"""What both processes must agree on: they would misunderstand each other with different versions of it.

Retry, logging, configuration and time do not belong here.
"""

__version__ = "0.1.0"
