//! GLWE with static public masks, published hints and split bodies.
