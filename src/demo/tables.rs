//! Rules and words of the demonstration grammar.
//!
//! In a rule, capitalised items are symbols, `$items` are filled from the cast of the story, all
//! else is a word or a mark. Variables in names are filled alike in the whole rule:
//!
//! - `#` number: `1`, `2`; a rule that leaves it free chooses 60 : 40
//! - `~` tense: `n` (now), `t` (then)
//! - `%` class of noun
//! - `@` who acts: `@h` hero, `@b` hero and friend, `@o` anyone else; it keeps "Anna sees Anna" out
//!   of a story and is ignored when a sentence is judged alone
//!
//! Weights are relative within a symbol, over all its entries.

/// Share of singular and plural where a rule leaves the number free.
pub const NUMBER_WEIGHTS: [f64; 2] = [0.6, 0.4];

/// Values of `%`.
pub const CLASSES: [&str; 6] = ["Person", "Animal", "Food", "Thing", "Text", "Place"];

/// A symbol and its alternatives: weight and items.
pub type Rule = (&'static str, &'static [(f64, &'static str)]);

/// Phrase rules; the stages of a story are `Opening~`, `Companion~` and `Body~`.
pub const RULES: &[Rule] = &[
    (
        "Opening~",
        &[
            (4.0, "$hero Be1~ a AdjPerson $kind who Live1~ Home ."),
            (2.0, "Home there Live1~ a AdjPerson $kind called $hero ."),
            (3.0, "$hero Be1~ a AdjPerson $kind from Home2 ."),
        ],
    ),
    ("Home", &[(3.0, "in Home2"), (2.0, "near the Place1"), (1.0, "near the AdjPlace Place1")]),
    ("Home2", &[(3.0, "the Town"), (1.0, "a Size Town")]),
    (
        "Companion~",
        &[
            (4.0, "$he Have1~ a AdjAnimal $pet and a friend called $friend ."),
            (2.0, "$he Live1~ with a AdjAnimal $pet and a friend called $friend ."),
            (2.0, "$friend Be1~ $his best friend , and $his $pet Be1~ always Mood ."),
        ],
    ),
    (
        "Body~",
        &[
            (50.0, "Main~ ."),
            (14.0, "Time , Main~ ."),
            (8.0, "Clause~ Time ."),
            (10.0, "Clause~ , Link Clause~ ."),
            (7.0, "Clause~ because Clause~ ."),
            (6.0, "when Clause~ , Clause~ ."),
            (3.0, "where Be#~ Sought#~ ?"),
            (4.0, "why Asked~ ?"),
        ],
    ),
    ("Main~", &[(74.0, "Clause~"), (10.0, "Joint~"), (16.0, "Speech~")]),
    (
        "Clause~",
        &[
            (8.0, "$hero Does1~@h"),
            (22.0, "$he Does1~@h"),
            (8.0, "$friend Does1~@o"),
            (6.0, "$fhe Does1~@o"),
            (8.0, "they Does2~@b"),
            (4.0, "$hero and $friend Does2~@b"),
            (26.0, "SubjectPerson#~ Does#~@o"),
            (6.0, "$his $pet Beast1~"),
            (14.0, "SubjectAnimal#~ Beast#~"),
            (5.0, "SubjectThing#~ Be#~ Lies~"),
        ],
    ),
    (
        "Joint~",
        &[
            (8.0, "$hero Does1~@h and Does1~@h"),
            (16.0, "$he Does1~@h and Does1~@h"),
            (8.0, "$friend Does1~@o and Does1~@o"),
            (6.0, "they Does2~@b and Does2~@b"),
            (20.0, "SubjectPerson#~ Does#~@o and Does#~@o"),
        ],
    ),
    (
        "Speech~",
        &[
            (8.0, "$hero Say1~ that Clause~"),
            (16.0, "$he Say1~ that Clause~"),
            (8.0, "$friend Say1~ that Clause~"),
            (5.0, "they Say2~ that Clause~"),
            (14.0, "SubjectPerson#~ Say#~ that Clause~"),
        ],
    ),
    (
        "Sought#~",
        &[
            (3.0, "the Person#"),
            (3.0, "the Animal#"),
            (2.0, "the Thing#"),
            (2.0, "the Person# who Rel#~"),
            (2.0, "the Animal# that Rel#~"),
            (2.0, "the Thing# That~"),
        ],
    ),
    ("Sought1~", &[(2.0, "$his $pet"), (1.0, "$friend")]),
    // After do, does and did the verb has its bare form, which is the plural of the present.
    (
        "Asked~",
        &[
            (4.0, "Do1~ $he Base~@h"),
            (2.0, "Do1~ $friend Base~@o"),
            (2.0, "Do2~ they Base~@b"),
            (5.0, "Do#~ SubjectPerson#~ Base~@o"),
        ],
    ),
    ("Lies~", &[(3.0, "Where ObjectPlace~"), (2.0, "very AdjThing")]),
    // What persons do.
    ("Does#~@", &[(82.0, "Act#~@"), (10.0, "Often Act#~@"), (14.0, "Be#~ Feeling")]),
    (
        "Act#~@",
        &[
            (9.0, "Move#~ Goal~"),
            (5.0, "Move#~ Manner"),
            (9.0, "Rest#~ Where ObjectPlace~"),
            (4.0, "Laugh#~"),
            (4.0, "Laugh#~ Manner"),
            (9.0, "See#~ Seen~@"),
            (7.0, "Like#~ Liked~@"),
            (9.0, "Eat#~ ObjectFood~"),
            (9.0, "Carry#~ ObjectThing~"),
            (4.0, "Hide#~ ObjectThing~ Where PlainPlace"),
            (6.0, "Write#~ ObjectText~"),
            (6.0, "Give#~ Receiver@ Gift"),
            (7.0, "Want#~ to Base~@"),
        ],
    ),
    (
        "Base~@",
        &[
            (4.0, "Move2n to PlainPlace"),
            (3.0, "See2n Seen~@"),
            (4.0, "Eat2n PlainFood"),
            (4.0, "Carry2n PlainThing"),
            (3.0, "Write2n PlainText"),
            (2.0, "Give2n Receiver@ Gift"),
        ],
    ),
    ("Feeling", &[(6.0, "Mood"), (3.0, "very Mood"), (3.0, "Fond of PlainAnimal")]),
    (
        "Goal~",
        &[(6.0, "to ObjectPlace~"), (2.0, "past ObjectPlace~"), (2.0, "around ObjectPlace~")],
    ),
    ("Seen~@", &[(4.0, "ObjectPerson~"), (4.0, "ObjectAnimal~"), (3.0, "ObjectPlace~")]),
    ("Seen~@h", &[(2.0, "$friend"), (2.0, "$fhim"), (1.0, "$his $pet")]),
    ("Seen~@o", &[(2.0, "$hero"), (2.0, "$him")]),
    ("Liked~@", &[(4.0, "ObjectAnimal~"), (4.0, "ObjectPerson~")]),
    ("Liked~@h", &[(3.0, "$friend"), (3.0, "$fhim"), (2.0, "$his $pet")]),
    ("Liked~@o", &[(2.0, "$hero"), (3.0, "$him")]),
    ("Receiver@", &[(3.0, "PlainPerson")]),
    ("Receiver@h", &[(2.0, "$friend"), (3.0, "$fhim")]),
    ("Receiver@o", &[(2.0, "$hero"), (3.0, "$him")]),
    ("Gift", &[(4.0, "PlainThing"), (3.0, "PlainFood")]),
    // What animals do.
    (
        "Beast#~",
        &[
            (4.0, "Move#~ Goal~"),
            (2.0, "Move#~ Manner"),
            (5.0, "Rest#~ Where ObjectPlace~"),
            (4.0, "Chase#~ ObjectAnimal~"),
            (3.0, "Eat#~ ObjectFood~"),
            (2.0, "Be#~ Mood"),
            (1.0, "Often Chase#~ ObjectAnimal~"),
        ],
    ),
    // Noun phrases: plain ones, objects (a relative clause at most), subjects (that, or a phrase of
    // place), so that the verb of a subject stands far from the noun it agrees with.
    ("Plain%#", &[(10.0, "Det# %#"), (6.0, "Det# Adj% %#"), (1.0, "Det# Size Adj% %#")]),
    ("PlainThing#", &[(3.0, "$his Thing#")]),
    ("PlainText#", &[(3.0, "$his Text#")]),
    ("Plain%", &[(1.0, "Plain%#")]),
    ("Object%~", &[(92.0, "Plain%"), (8.0, "Plain% That~")]),
    (
        "Subject%#~",
        &[(66.0, "Plain%#"), (17.0, "Plain%# Where ObjectPlace~"), (7.0, "Plain%# That~")],
    ),
    ("SubjectPerson#~", &[(10.0, "PlainPerson# who Rel#~")]),
    ("SubjectAnimal#~", &[(10.0, "PlainAnimal# that Rel#~")]),
    (
        "Rel#~",
        &[
            (3.0, "See#~ PlainPerson"),
            (3.0, "Eat#~ PlainFood"),
            (4.0, "Rest#~ Where PlainPlace"),
            (2.0, "Move#~ to PlainPlace"),
        ],
    ),
    (
        "That~",
        &[
            (6.0, "that PlainPerson# See#~"),
            (2.0, "that $hero See1~"),
            (3.0, "that $he See1~"),
            (2.0, "that they See2~"),
            (1.0, "that $friend See1~"),
        ],
    ),
    ("Where", &[(5.0, "near"), (3.0, "behind"), (2.0, "beside"), (1.0, "in front of")]),
    ("Det1", &[(10.0, "the"), (6.0, "a"), (2.0, "this"), (1.5, "every")]),
    ("Det2", &[(10.0, "the"), (2.0, "these"), (3.0, "some"), (2.0, "many"), (1.5, "two")]),
    ("Link", &[(3.0, "and"), (2.0, "but"), (1.0, "so")]),
    (
        "Time",
        &[
            (4.0, "every day"),
            (3.0, "in the morning"),
            (2.0, "in the evening"),
            (2.0, "at night"),
            (1.0, "after lunch"),
            (1.0, "in the summer"),
        ],
    ),
];

/// Words by category, most frequent first: the weight of the word at rank r (from 0) is 1/(r + 3).
///
/// Forms are separated by `/`: one is invariant; two are singular and plural of a noun (`Person1`,
/// `Person2`); three are present singular, present plural (also the bare form) and past of a verb
/// (`See1n`, `See2n`, `See1t` = `See2t`); a fourth is the plural of the past. No form of a verb
/// serves both tenses and no noun both numbers, so that every sentence shows both.
pub const LEXICON: &[(&str, &str)] = &[
    (
        "Person",
        "boy/boys girl/girls man/men woman/women child/children farmer/farmers teacher/teachers \
         baker/bakers doctor/doctors sailor/sailors painter/painters soldier/soldiers king/kings \
         queen/queens",
    ),
    (
        "Animal",
        "dog/dogs cat/cats horse/horses bird/birds cow/cows duck/ducks rabbit/rabbits fox/foxes \
         mouse/mice goat/goats pig/pigs owl/owls",
    ),
    (
        "Food",
        "apple/apples cake/cakes egg/eggs carrot/carrots pear/pears orange/oranges cookie/cookies \
         onion/onions",
    ),
    (
        "Thing",
        "ball/balls box/boxes basket/baskets hat/hats lamp/lamps coat/coats umbrella/umbrellas \
         cup/cups chair/chairs bell/bells",
    ),
    ("Text", "letter/letters story/stories book/books song/songs poem/poems"),
    (
        "Place",
        "house/houses tree/trees barn/barns bridge/bridges shop/shops school/schools wall/walls \
         church/churches mill/mills tower/towers inn/inns gate/gates",
    ),
    ("Town", "village town valley city"),
    ("Size", "big little huge"),
    ("AdjPerson", "young old kind clever cheerful tall brave poor rich"),
    ("AdjAnimal", "small brown white lazy wild gentle angry"),
    ("AdjFood", "sweet fresh ripe"),
    ("AdjThing", "red blue green old yellow new empty"),
    ("AdjText", "long short funny beautiful"),
    ("AdjPlace", "old tall stone ugly quiet"),
    ("Mood", "happy hungry tired sad calm proud afraid"),
    ("Fond", "fond tired afraid"),
    ("Manner", "quickly slowly quietly happily away"),
    ("Often", "often always never sometimes"),
    ("Be", "is/are/was/were"),
    ("Do", "does/do/did"),
    ("Have", "has/have/had"),
    ("Live", "lives/live/lived"),
    ("Move", "runs/run/ran walks/walk/walked goes/go/went hurries/hurry/hurried jumps/jump/jumped"),
    (
        "Rest",
        "sleeps/sleep/slept sits/sit/sat waits/wait/waited plays/play/played rests/rest/rested",
    ),
    ("Laugh", "laughs/laugh/laughed smiles/smile/smiled sings/sing/sang dances/dance/danced"),
    ("See", "sees/see/saw finds/find/found helps/help/helped watches/watch/watched meets/meet/met"),
    ("Like", "likes/like/liked loves/love/loved misses/miss/missed"),
    ("Eat", "eats/eat/ate wants/want/wanted cooks/cook/cooked buys/buy/bought"),
    (
        "Carry",
        "carries/carry/carried takes/take/took drops/drop/dropped cleans/clean/cleaned \
         paints/paint/painted",
    ),
    ("Hide", "hides/hide/hid leaves/leave/left keeps/keep/kept"),
    ("Write", "writes/write/wrote learns/learn/learned begins/begin/began"),
    ("Give", "gives/give/gave brings/bring/brought shows/show/showed sends/send/sent"),
    ("Want", "hopes/hope/hoped tries/try/tried needs/need/needed"),
    ("Chase", "chases/chase/chased follows/follow/followed fears/fear/feared"),
    ("Say", "says/say/said thinks/think/thought knows/know/knew believes/believe/believed"),
];
