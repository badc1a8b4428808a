"""One command, `fieldgate`: the only place that knows both sides."""
