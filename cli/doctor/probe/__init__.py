"""What looks at the world for the doctor: each probe measures, has a deadline, and judges nothing."""
