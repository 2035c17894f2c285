"""What one step of each model family computes, and the stages that aren't training."""
