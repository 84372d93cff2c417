//! `seeds FOLDER [TARGET]`: writes the valid inputs that fuzz targets start from, all of them or one's, into folders of their names.

use std::path::PathBuf;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let mut arguments = env::args_os().skip(1);
    let folder = PathBuf::from(arguments.next().unwrap_or_else(|| "corpus".into()));
    let wanted = arguments.next();
    for decoder in lowkey_fuzz::ALL.iter().filter(|decoder| wanted.as_ref().is_none_or(|name| name == decoder.name)) {
        let folder = folder.join(decoder.name);
        fs::create_dir_all(&folder)?;
        for (index, seed) in (decoder.seeds)().iter().enumerate() {
            fs::write(folder.join(format!("seed-{index}")), seed)?;
        }
    }
    Ok(())
}
