"""Where endorsements come from besides the evidence itself: AMD's published authorities and the operator's folders."""
