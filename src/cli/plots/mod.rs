//! Pictures: SVG files, drawn by a few shapes of our own. No fonts are needed, text is set in the reader's own.
//!
//! | file | what |
//! |---|---|
//! | `svg` | lines, bars, discs, text |
//! | `labels` | a place for each name, where it covers nothing |
//! | `panels` | bytes against accuracy, a panel for each architecture |
//! | `bars` | bars in groups, with whiskers |
//! | `cells` | a cell for each layer |
//! | `families` | names of architectures; what is known of them elsewhere |

pub mod bars;
pub mod cells;
pub mod families;
mod labels;
pub mod panels;
pub mod svg;
