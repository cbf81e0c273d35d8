//! The words slugs are made of. They must never change, not even in order: every derived slug depends on all of them.

/// First words.
#[rustfmt::skip]
pub const ADJECTIVES: [&str; 256] = [
    "agile", "airy", "alert", "alpine", "amber", "ample", "amused", "arctic", "artful", "astral", "autumn",
    "azure", "balmy", "beaming", "benign", "bold", "bonny", "bouncy", "brave", "breezy", "bright", "brisk",
    "bronze", "bubbly", "buoyant", "calm", "candid", "capable", "careful", "caring", "casual", "cedar",
    "cheerful", "cheery", "chipper", "civic", "classic", "clean", "clear", "clever", "coastal", "cobalt",
    "comfy", "copper", "coral", "cordial", "cosmic", "cosy", "crafty", "creamy", "crimson", "crisp", "curious",
    "curly", "cyan", "dainty", "dapper", "daring", "dashing", "dazzling", "decent", "deft", "devoted", "direct",
    "distant", "divine", "dreamy", "driven", "dusky", "eager", "early", "earnest", "earthy", "easy", "elated",
    "elegant", "emerald", "epic", "even", "exact", "exotic", "expert", "fabled", "fair", "faithful", "famous",
    "fancy", "fearless", "festive", "fine", "firm", "fleet", "floral", "fluent", "fluffy", "flying", "fond",
    "frank", "free", "fresh", "friendly", "frosty", "fruity", "funny", "gallant", "gentle", "genuine", "giant",
    "gifted", "glad", "gleaming", "global", "glossy", "glowing", "golden", "good", "graceful", "grand",
    "grateful", "great", "green", "groovy", "handy", "happy", "hardy", "harmonic", "hazel", "hearty", "helpful",
    "heroic", "hidden", "honest", "humble", "ideal", "indigo", "inner", "ivory", "jade", "jaunty", "jolly",
    "jovial", "joyful", "jubilant", "keen", "kind", "lasting", "laughing", "lavish", "leafy", "light", "lilac",
    "lively", "lofty", "loyal", "lucid", "lucky", "lunar", "lush", "magic", "magnetic", "mellow", "merry",
    "mighty", "mild", "mindful", "minty", "misty", "modern", "modest", "musical", "native", "neat", "nifty",
    "nimble", "noble", "northern", "novel", "oaken", "olive", "open", "orange", "patient", "peaceful", "pearly",
    "perky", "placid", "playful", "pleasant", "plucky", "polished", "polite", "proud", "quick", "quiet",
    "radiant", "rapid", "ready", "regal", "relaxed", "robust", "rosy", "royal", "ruby", "rustic", "scenic",
    "serene", "shiny", "silent", "silken", "silver", "simple", "sincere", "sleek", "smart", "smooth", "snowy",
    "snug", "soft", "solar", "solid", "sparkling", "speedy", "splendid", "spry", "stable", "starry", "steady",
    "stellar", "sterling", "sturdy", "sunny", "super", "sweet", "swift", "tender", "thankful", "tidy", "timely",
    "tranquil", "trusty", "twinkling", "upbeat", "urban", "valiant", "velvet", "vibrant", "violet", "vital",
    "vivid", "warm", "wise", "witty", "wonderful", "woodland", "young", "zesty",
];

/// Second words.
#[rustfmt::skip]
pub const NOUNS: [&str; 256] = [
    "acorn", "albatross", "alder", "alpaca", "anchor", "antelope", "apple", "apricot", "arbor", "armadillo",
    "aspen", "aster", "aurora", "badger", "bamboo", "banjo", "basil", "beacon", "bear", "beaver", "beech",
    "berry", "birch", "bison", "blossom", "bluebird", "bobcat", "breeze", "bridge", "brook", "buffalo", "bunny",
    "butterfly", "cactus", "camel", "canary", "canyon", "caribou", "cello", "cherry", "chestnut", "chickadee",
    "chipmunk", "cloud", "clover", "comet", "condor", "cove", "coyote", "crane", "creek", "cricket", "crocus",
    "cypress", "daffodil", "daisy", "dawn", "deer", "dingo", "dolphin", "donkey", "dove", "dragonfly", "duck",
    "dune", "eagle", "echo", "egret", "elk", "elm", "ember", "falcon", "fawn", "fern", "ferret", "finch",
    "firefly", "fjord", "forest", "fountain", "fox", "galaxy", "garden", "gazelle", "gecko", "geyser",
    "giraffe", "glacier", "glade", "goose", "gopher", "grove", "gull", "hamster", "harbor", "hare", "harp",
    "hawk", "hedgehog", "heron", "hippo", "horizon", "hornbill", "hummingbird", "ibex", "ibis", "iguana",
    "impala", "iris", "island", "ivy", "jaguar", "jasmine", "jay", "juniper", "kangaroo", "kestrel",
    "kingfisher", "kite", "kiwi", "koala", "lagoon", "lake", "lantern", "larch", "lark", "laurel", "lavender",
    "lemming", "lemon", "lemur", "leopard", "lily", "linden", "linnet", "lion", "llama", "lotus", "lynx",
    "magnolia", "magpie", "mallard", "manatee", "mango", "maple", "marigold", "marmot", "marten", "meadow",
    "meerkat", "melon", "meteor", "mint", "mist", "moon", "moose", "moss", "mountain", "mulberry", "nebula",
    "newt", "nightingale", "nutmeg", "oak", "oasis", "ocean", "ocelot", "octopus", "orca", "orchard", "orchid",
    "oriole", "osprey", "otter", "owl", "palm", "panda", "panther", "papaya", "parrot", "peach", "peacock",
    "pebble", "pelican", "penguin", "peony", "petrel", "pheasant", "phoenix", "pine", "planet", "plover",
    "plum", "pond", "pony", "poplar", "poppy", "porcupine", "prairie", "puffin", "puma", "quail", "quartz",
    "quokka", "rabbit", "raccoon", "rain", "raven", "reef", "reindeer", "river", "robin", "rose", "rowan",
    "sage", "salmon", "sandpiper", "seal", "sequoia", "skylark", "snowflake", "sparrow", "spruce", "squirrel",
    "star", "starling", "stork", "stream", "summit", "sunflower", "swallow", "swan", "tapir", "tern", "thistle",
    "thrush", "thyme", "tiger", "toucan", "trail", "trout", "tulip", "turtle", "valley", "violin", "walnut",
    "walrus", "waterfall", "willow", "wombat", "woodpecker", "wren", "yak", "yarrow", "zebra", "zephyr",
];
