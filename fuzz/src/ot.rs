//! The messages of OT, and the frames of programs.

use std::sync::{Arc, Mutex, OnceLock};

use lowkey_mpc::bits::Planes;
use lowkey_mpc::block::{Block, Delta};
use lowkey_mpc::channel::Channel;
use lowkey_mpc::extend::Finish;
use lowkey_mpc::layout::Search;
use lowkey_mpc::ot::base::{self as base_ot, Domain, ReceiverMessage, SenderMessage, SessionId};
use lowkey_mpc::ot::coins::Coins;
use lowkey_mpc::ot::silent::{self, BatchMessage};
use lowkey_mpc::ot::softspoken::{self, BASE_OTS, Correction};
use lowkey_mpc::ot::{Correlations, Cots, OtCount, price};
use lowkey_mpc::output;
use lowkey_mpc::party::Party;
use lowkey_mpc::prg::Prg;
use lowkey_mpc::program::{OfflineRun, OnlineRun, Program, Turn};
use lowkey_mpc::requantise::{self, Spec};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

const DOMAIN: Domain = Domain { session: SessionId([7; 32]), receiver: Party::Client };
const COINS: Coins = Coins::fixed([7; 32], Party::Client);
const OTS: usize = 2;

fn rng() -> ChaCha20Rng {
    ChaCha20Rng::from_seed([9; 32])
}

pub fn base(bytes: &[u8]) {
    if let Ok(message) = ReceiverMessage::decode(bytes) {
        let mut again = Vec::new();
        message.encode(&mut again);
        assert!(again == bytes);
        let (sender, _) = base_ot::Sender::start(DOMAIN, OTS, &mut rng());
        if let Err(error) = sender.finish(&message) {
            assert!(error.is_peer_fault(), "{error}");
        }
    }
    if let Ok(message) = SenderMessage::decode(bytes) {
        let mut again = Vec::new();
        message.encode(&mut again);
        assert!(again == bytes);
        let (receiver, _) = base_ot::Receiver::start(DOMAIN, vec![0, 1], &mut rng());
        if let Err(error) = receiver.finish(&message) {
            assert!(error.is_peer_fault(), "{error}");
        }
    }
}

pub fn base_messages() -> Vec<Vec<u8>> {
    let (mut first, mut second) = (Vec::new(), Vec::new());
    base_ot::Receiver::start(DOMAIN, vec![1, 0], &mut rng()).1.encode(&mut first);
    base_ot::Sender::start(DOMAIN, OTS, &mut rng()).1.encode(&mut second);
    vec![first, second]
}

const BLOCKS: usize = 2;

/// Corrections of SoftSpokenOT, and batches of silent OT (the first index is 0).
pub fn extension(bytes: &[u8]) {
    match Correction::decode(bytes, BLOCKS) {
        Ok(correction) => {
            assert!(correction.encode() == bytes);
            let delta = Delta::random(&mut rng());
            let sent = softspoken::send(&[Block::ONES; BASE_OTS], &delta, &correction, &COINS, BLOCKS);
            if let Err(error) = sent {
                assert!(error.is_peer_fault(), "{error}");
            }
        }
        Err(error) => assert!(error.is_peer_fault(), "{error}"),
    }
    match BatchMessage::decode(bytes, 0) {
        Ok(message) => assert!(message.encode() == bytes),
        Err(error) => assert!(error.is_peer_fault(), "{error}"),
    }
}

pub fn extension_messages() -> Vec<Vec<u8>> {
    let mut rng = rng();
    let pairs: Vec<[Block; 2]> = (0..BASE_OTS).map(|_| [Block::random(&mut rng), Block::random(&mut rng)]).collect();
    let (_, correction) = softspoken::receive(&pairs, &COINS, BLOCKS);
    let keys: Vec<Block> = (0..silent::SEED).map(|_| Block::random(&mut rng).with_lsb(0)).collect();
    let sender = silent::Sender::new(Delta::random(&mut rng), &keys, COINS);
    let (_, _, message, _) = sender.start(&mut Prg::from_rng(&mut rng));
    vec![correction.encode(), message.encode()]
}

/// Enough lanes for whole words, bytes, and padding.
const LANES: usize = 77;

/// A program at one party, waiting for its first frame of a stage.
enum Waiting {
    Offline(OfflineRun),
    Online(OnlineRun),
}

impl Waiting {
    fn turn(&mut self) -> Turn {
        match self {
            Self::Offline(run) => run.turn(),
            Self::Online(run) => run.turn(),
        }
    }

    fn receive(&mut self, frame: &[u8]) -> lowkey_mpc::error::Result<()> {
        match self {
            Self::Offline(run) => run.receive(frame),
            Self::Online(run) => run.receive(frame),
        }
    }

    /// Runs until a frame is due; its length, or `None` at the end.
    fn wait(&mut self) -> Option<usize> {
        loop {
            match self.turn() {
                Turn::Send(_) => {}
                Turn::Receive(len) => return Some(len),
                Turn::Done => return None,
            }
        }
    }
}

/// A server's requantisation and a client's logits, and OTs to run them with. A frame is refused without harm; after one that is
/// accepted the program goes on with nonsense until its end, and begins anew.
struct Programs {
    requantise: Arc<Program>,
    logits: Arc<Program>,
    pools: Option<[Cots; 2]>,
    waiting: [Option<Waiting>; 2],
}

impl Programs {
    fn new() -> Self {
        let (spec, finish) = (Spec { ell: 13, shift: 7, bits: 4, guard: 1 }, Finish::Upload { ring: 13 });
        let layout = Search::new(0.73).requantise(spec, finish).expect("it exists")[0].layout.clone();
        let requantise = Arc::new(requantise::program(spec, &layout, finish).expect("it fits"));
        let logits = Arc::new(output::logits(13).expect("it exists"));
        Self { requantise, logits, pools: None, waiting: [None, None] }
    }

    fn program(&self, which: usize) -> &Arc<Program> {
        [&self.requantise, &self.logits][which]
    }

    /// The server's (0) or the client's (1) half of OTs for one run of that program.
    fn cots(&mut self, which: usize) -> Cots {
        let need = self.program(which).ots() * LANES;
        let pools = self.pools.get_or_insert_with(deal);
        match pools[which].split_front(need) {
            Ok(cots) => cots,
            Err(_) => {
                let mut pools = deal();
                let cots = pools[which].split_front(need).expect("a batch is enough for one");
                self.pools = Some(pools);
                cots
            }
        }
    }

    fn start(&mut self, which: usize) -> Waiting {
        let cots = self.cots(which);
        let prepared = self.program(which).prepare(LANES, cots).expect("as many as needed");
        let early = if which == 0 { vec![] } else { vec![Planes::zero(LANES, 14)] };
        Waiting::Offline(prepared.offline(early))
    }

    /// The program, waiting for a frame; goes on to the online stage when the offline one is over.
    fn next(&mut self, which: usize) -> (Waiting, usize) {
        let mut waiting = match self.waiting[which].take() {
            Some(waiting) => waiting,
            None => self.start(which),
        };
        loop {
            match (waiting.wait(), waiting) {
                (Some(len), same) => return (same, len),
                (None, Waiting::Offline(run)) => {
                    let late = if which == 0 { vec![Planes::zero(LANES, 14)] } else { vec![] };
                    waiting = Waiting::Online(run.finish().online(late));
                }
                (None, Waiting::Online(run)) => {
                    let _ = run.finish();
                    waiting = self.start(which);
                }
            }
        }
    }
}

/// Both parties' OTs of one batch in each direction: the server's and the client's.
fn deal() -> [Cots; 2] {
    let need = OtCount { client_receives: price::OTS_OF_SETUP, server_receives: price::OTS_OF_SETUP };
    let one = async |mut channel: Channel| {
        let mut pool = Correlations::setup(&mut channel, &mut rng()).await.expect("set up");
        pool.ensure(&mut channel, need).await.expect("OTs");
        pool.take(need).expect("ensured")
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (client, server) = Channel::pair();
        let (client, server) = tokio::join!(one(client), one(server));
        [server, client]
    })
}

/// One byte of program, then frames of the length that is due; the last one may be shorter.
pub fn program(bytes: &[u8]) {
    static PROGRAMS: OnceLock<Mutex<Programs>> = OnceLock::new();
    let programs = PROGRAMS.get_or_init(|| Mutex::new(Programs::new()));
    let mut programs = programs.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let Some((which, mut rest)) = bytes.split_first() else { return };
    let which = usize::from(which & 1);
    while !rest.is_empty() {
        let (mut waiting, len) = programs.next(which);
        let (frame, after) = rest.split_at(len.min(rest.len()));
        rest = after;
        match waiting.receive(frame) {
            Ok(()) => assert_eq!(frame.len(), len),
            Err(error) => assert!(error.is_peer_fault(), "{error}"),
        }
        programs.waiting[which] = Some(waiting);
    }
}

pub fn frames() -> Vec<Vec<u8>> {
    let mut programs = Programs::new();
    [0, 1]
        .map(|which| {
            let mut bytes = vec![which as u8];
            for _ in 0..4 {
                let (mut waiting, len) = programs.next(which);
                waiting.receive(&vec![0; len]).expect("zeros are planes");
                programs.waiting[which] = Some(waiting);
                bytes.resize(bytes.len() + len, 0);
            }
            bytes
        })
        .into()
}
