//! What the tests of other libraries share.
