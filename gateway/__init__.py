"""The edge: readings in over MQTT, kept, cleaned, windowed, and streamed up. Start reading at `pipeline`."""
