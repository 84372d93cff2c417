//! Sizes in arguments: `512M`, `1.5G`, `800 MB`.

/// Bytes. K, M and G are powers of 1024, as systemd and containers have them; so are KiB, MiB and GiB. kB, MB and GB are powers of 1000.
pub fn parse(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no size: a number, and B, K, M, G, kB, MB, GB, KiB, MiB or GiB");
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor: u64 = match unit.trim() {
        "" | "B" => 1,
        "kB" | "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "K" | "k" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let bytes = number * factor as f64;
    // Beyond 2^53 not every byte can be told, and nobody has so many.
    if bytes < 1.0 || bytes > (1u64 << 53) as f64 {
        return Err(wrong());
    }
    Ok(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_people_write_them() {
        for (text, bytes) in [
            ("1", 1),
            ("4096B", 4096),
            ("512M", 512 << 20),
            ("1.5G", 3 << 29),
            ("1.5 GiB", 3 << 29),
            ("800 MB", 800_000_000),
            ("2kB", 2000),
            (" 2K ", 2048),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for text in ["", "M", "-1M", "1T", "1 M B", "0", "1e9", "1.2.3M", "99999999999G", "NaN", "inf"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
