//! Names of bundled models, also those that are nearly one.

use lowkey::Error;
use lowkey_models::zoo;

/// Below this a name is another one, not a slip: the largest edit distance over the length.
const SLIP: f64 = 0.34;

/// The bundled model whose name is nearest, if it is near.
pub fn neighbour(name: &str) -> Option<&'static str> {
    let distance = |other: &str| {
        strsim::damerau_levenshtein(name, other) as f64 / name.chars().count().max(other.chars().count()) as f64
    };
    let near = zoo::ALL.iter().map(|bundled| (bundled.name, distance(bundled.name)));
    near.filter(|(_, distance)| *distance <= SLIP).min_by(|a, b| a.1.total_cmp(&b.1)).map(|(name, _)| name)
}

/// What to do about a name: its neighbour, or where the names are.
pub fn hint(name: &str) -> String {
    match neighbour(name) {
        Some(near) => format!("did you mean {near}? `lowkey models` lists the bundled models"),
        None => "`lowkey models` lists the bundled models, digits among them".to_owned(),
    }
}

/// No bundled model has this name.
pub fn unknown(name: &str) -> Error {
    Error::usage(format!("no bundled model {name:?}"), hint(name))
}

/// No bundled model has this width.
pub fn unknown_member(name: &str) -> Error {
    let family = name.rsplit_once("-w").map_or(name, |(family, _)| family);
    let members = zoo::ALL.iter().map(|bundled| bundled.name).filter(|other| other.starts_with(family));
    Error::usage(format!("no bundled model {name:?}"), format!("there are: {}", members.collect::<Vec<_>>().join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_have_a_neighbour_and_other_names_none() {
        assert_eq!(neighbour("digit"), Some("digits"));
        assert_eq!(neighbour("mnist-minion-w4a4"), Some("mnist-minionn-w4a4"));
        assert_eq!(neighbour("cifar10-resnet-w2a2"), Some("cifar10-resnet20-w2a2"));
        assert_eq!(neighbour("cats"), None);
        assert_eq!(neighbour("/nowhere/model.lowkey"), None);
    }
}
