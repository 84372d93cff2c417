//! Every decoder of bytes that a peer or a file gives, as a function of bytes that must not panic and must not take much memory.
//!
//! The bodies of the fuzz targets, and of the bounded run in `tests/decoders.rs`. Where bytes are accepted, they must mean what
//! they say: encoding gives them back. Words are in `docs/words.md`.

mod files;
mod messages;
mod ot;
mod sessions;

pub use files::large_plans;

/// One decoder, or a family of them.
pub struct Decoder {
    /// Name of the fuzz target.
    pub name: &'static str,
    /// Decodes. Panics if the decoder is wrong.
    pub run: fn(&[u8]),
    /// Valid inputs, to start from.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Most memory that one run may take beyond 64 times its input, in MiB.
    pub memory: usize,
}

/// All of them.
pub const ALL: [Decoder; 19] = [
    Decoder { name: "architecture", run: files::architecture, seeds: files::architectures, memory: 4 },
    Decoder { name: "plan", run: files::plan, seeds: files::plans, memory: 768 },
    Decoder { name: "package", run: files::package, seeds: files::packages, memory: 768 },
    Decoder { name: "records", run: files::records, seeds: files::record_files, memory: 16 },
    Decoder { name: "layout", run: files::layout, seeds: files::layouts, memory: 64 },
    Decoder { name: "network", run: files::network, seeds: files::networks, memory: 512 },
    Decoder { name: "import", run: files::import, seeds: files::imports, memory: 512 },
    Decoder { name: "inputs", run: files::inputs, seeds: files::input_files, memory: 512 },
    Decoder { name: "control", run: messages::control, seeds: messages::controls, memory: 1 },
    Decoder { name: "packed", run: messages::packed, seeds: messages::packed_fields, memory: 1 },
    Decoder { name: "hint", run: messages::hint, seeds: messages::hints, memory: 1 },
    Decoder { name: "keys", run: messages::keys, seeds: messages::key_messages, memory: 4 },
    Decoder { name: "bodies", run: messages::bodies, seeds: messages::body_messages, memory: 4 },
    Decoder { name: "base_ot", run: ot::base, seeds: ot::base_messages, memory: 1 },
    Decoder { name: "ot_extension", run: ot::extension, seeds: ot::extension_messages, memory: 1 },
    Decoder { name: "program", run: ot::program, seeds: ot::frames, memory: 256 },
    Decoder { name: "channel", run: sessions::channel, seeds: sessions::streams, memory: 9 },
    Decoder { name: "server", run: sessions::server, seeds: sessions::client_streams, memory: 256 },
    Decoder { name: "client", run: sessions::client, seeds: sessions::server_streams, memory: 256 },
];

/// Runs the decoder of that name.
pub fn run(name: &str, bytes: &[u8]) {
    let decoder = ALL.iter().find(|decoder| decoder.name == name).expect("a decoder of that name");
    (decoder.run)(bytes);
}
