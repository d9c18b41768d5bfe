//! The Inventory that the generator plays: resources, their lives, the next thing that happens.

use rand::Rng;
use rand::rngs::StdRng;
use rand_distr::{Distribution, Zipf};
use uuid::Uuid;

use super::{GeneratorConfig, Popularity};
use crate::model::Operation;

/// A resource type with the reporter that reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Host,
    Cluster(&'static str),
    Policy,
    Integration,
    Service,
    BillingAccount,
}

impl Kind {
    pub(super) fn resource_type(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Cluster(_) => "k8s_cluster",
            Self::Policy => "k8s_policy",
            Self::Integration => "notifications_integration",
            Self::Service => "service",
            Self::BillingAccount => "billing_account",
        }
    }

    pub(super) fn reporter_type(self) -> &'static str {
        match self {
            Self::Host => "hbi",
            Self::Cluster(reporter) => reporter,
            Self::Policy => "acm",
            Self::Integration => "notifications",
            Self::Service | Self::BillingAccount => "features",
        }
    }

    /// Whether its common data has a workspace.
    pub(super) fn has_workspace(self) -> bool {
        !matches!(self, Self::Service | Self::BillingAccount)
    }
}

/// One resource.
#[derive(Debug, Clone, Default)]
struct Resource {
    id: Option<Uuid>,
    live: bool,
    workspace: u32,
    revision: u32,
    /// How many lived in this place before, whose ids never come back.
    predecessors: usize,
}

/// What happens next.
#[derive(Debug, Clone)]
pub(super) struct Happening {
    pub(super) id: Uuid,
    pub(super) event_id: Uuid,
    pub(super) operation: Operation,
    pub(super) kind: Kind,
    /// The number of the resource, from which its constant parts are made.
    pub(super) number: usize,
    /// The state of its data.
    pub(super) revision: u32,
    pub(super) workspace: Option<Uuid>,
    pub(super) says_data: bool,
    pub(super) time_us: u64,
    pub(super) seed: u64,
}

/// All resources.
#[derive(Debug)]
pub(super) struct World {
    resources: Vec<Resource>,
    zipf: Option<Zipf<f64>>,
    swept: usize,
    workspaces: u32,
    seed: u64,
    ids_made: u64,
}

/// Draws that may meet the dead before one of them gives its place to a new resource.
const DRAWS_MAX: usize = 64;

/// A number spread over 64 bits.
pub(super) fn spread(seed: u64, number: u64) -> u64 {
    // The constant keeps seed 0 and number 0 from being 0 spread.
    let mut z = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(number.wrapping_mul(0xD1B5_4A32_D192_ED03));
    z = z.wrapping_add(0x2545_F491_4F6C_DD1D);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A UUID v4 made from numbers.
pub(super) fn uuid_of(seed: u64, number: u64) -> Uuid {
    let (high, low) = (spread(seed, number), spread(seed ^ 0x5555, number));
    uuid::Builder::from_random_bytes(Uuid::from_u64_pair(high, low).into_bytes()).into_uuid()
}

impl World {
    pub(super) fn new(config: &GeneratorConfig) -> Self {
        let count = config.resources.max(1);
        let zipf = match config.popularity {
            Popularity::Zipf(exponent) => Zipf::new(count as f64, exponent).ok(),
            Popularity::Sweep => None,
        };
        let workspaces = u32::try_from((count / 50).clamp(5, 20_000)).unwrap_or(5);
        Self { resources: vec![Resource::default(); count], zipf, swept: 0, workspaces, seed: config.seed, ids_made: 0 }
    }

    /// The id of some resource that exists, for poison to be about.
    pub(super) fn some_id(&self, random: &mut StdRng) -> Option<Uuid> {
        let number = random.random_range(0..self.resources.len());
        self.resources[number].id
    }

    fn kind(number: usize, hosts_only: bool) -> Kind {
        if hosts_only {
            return Kind::Host;
        }
        match number % 100 {
            0 => Kind::Cluster("acm"),
            20 => Kind::Cluster("ocm"),
            40 => Kind::Cluster("acs"),
            10 | 50 | 90 => Kind::Policy,
            30 => Kind::Integration,
            60 => Kind::Service,
            80 => Kind::BillingAccount,
            _ => Kind::Host,
        }
    }

    /// A UUID v7 at this time, greater than any made before at the same time.
    fn id_at(&mut self, ms: u64) -> Uuid {
        self.ids_made += 1;
        let sub = (self.ids_made & 0xfff) as u16;
        let mut random = spread(self.seed ^ 0x77, self.ids_made).to_be_bytes();
        random[0] = (random[0] & 0x3f) | 0x80;
        let high = (ms << 16) | 0x7000 | u64::from(sub);
        Uuid::from_u64_pair(high, u64::from_be_bytes(random))
    }

    fn draw(&mut self, random: &mut StdRng) -> usize {
        let count = self.resources.len();
        match &self.zipf {
            Some(zipf) => {
                let rank = zipf.sample(random) as usize;
                // Popular resources are spread over all types.
                (rank.saturating_sub(1)).wrapping_mul(7_919) % count
            }
            None => {
                self.swept += 1;
                (self.swept - 1) % count
            }
        }
    }

    /// Whose turn it is. Who is drawn dead may stay dead: then something happens to another; and where all seem to be
    /// dead, a new resource takes the place of one.
    fn draw_place(&mut self, random: &mut StdRng, revivals: f64) -> usize {
        let mut place = 0;
        for _ in 0..DRAWS_MAX {
            place = self.draw(random);
            let resource = &self.resources[place];
            if resource.id.is_none() || resource.live || random.random_bool(revivals.clamp(0.0, 1.0)) {
                return place;
            }
        }
        let predecessors = self.resources[place].predecessors + 1;
        self.resources[place] = Resource { predecessors, ..Resource::default() };
        place
    }

    pub(super) fn next_event(&mut self, random: &mut StdRng, now_us: u64, config: &GeneratorConfig) -> Happening {
        let faults = config.faults;
        let place = self.draw_place(random, faults.revivals);
        let kind = Self::kind(place, config.hosts_only);
        // The report was committed a little before Debezium writes it, by the clock of one of four pods.
        let skew_us = faults.clock_skew_ms.saturating_mul(1_000) / 3 * random.random_range(0..4);
        let time_us = now_us.saturating_sub(5_000 + skew_us);
        let event_id = self.id_at(time_us / 1_000);
        let mut resource = self.resources[place].clone();
        let number = place + resource.predecessors * self.resources.len();
        let ghost = resource.live && faults.ghosts > 0.0 && random.random_bool(faults.ghosts);
        if ghost {
            resource = Resource { id: None, live: false, ..resource };
        }
        let operation = match (resource.id.is_some(), resource.live) {
            (false, _) => Operation::Created,
            (true, true) if random.random_bool(faults.deletes) => Operation::Deleted,
            (true, _) => Operation::Updated,
        };
        let id = match resource.id {
            Some(id) => id,
            None => self.id_at(time_us / 1_000),
        };
        let first = operation == Operation::Created || !resource.live;
        if resource.id.is_none() || random.random_bool(faults.moves) {
            resource.workspace = random.random_range(0..self.workspaces);
        }
        let variant = random.random_range(0..10);
        // Seven of ten updates say all, one only common data, one only the reporter's, one repeats.
        let says_workspace = first || variant != 0;
        let says_data = first || variant != 1;
        if says_data && variant != 2 {
            resource.revision += 1;
        }
        resource.id = Some(id);
        resource.live = operation != Operation::Deleted;
        let workspace = uuid_of(self.seed ^ 0xaa, u64::from(resource.workspace));
        let revision = resource.revision;
        self.resources[place] = resource;
        Happening {
            id,
            event_id,
            operation,
            kind,
            number,
            revision,
            workspace: (says_workspace && kind.has_workspace()).then_some(workspace),
            says_data,
            time_us,
            seed: self.seed,
        }
    }
}
