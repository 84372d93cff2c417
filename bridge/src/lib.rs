//! Homomorphic linear layers on shares: packing, budget, ciphertext to shares and back.
