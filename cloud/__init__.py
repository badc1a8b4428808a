"""The aggregator: frames in, receipts out, rows stored and shown. Start reading at `app`."""
