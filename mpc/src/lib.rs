//! Two-party computation from silent oblivious transfer, for small integers.
