"""What artists call the layers of a character, and which tag each name means.

Tags of V2 stand where a name does not say which part of hair or eyes it is. Skin belongs to what
is worn over it, as in the published labels: an arm is `handwear`, a leg `legwear`.
"""

SURE, LIKELY, GUESS = 0.95, 0.8, 0.6
"""How sure a layer's own name makes its tag."""

Names = dict[str, tuple[str, ...]]

ENGLISH: dict[float, Names] = {
    SURE: {
        "front hair": ("front hair", "bangs", "fringe", "ahoge", "maegami"),
        "back hair": ("back hair", "rear hair", "behind hair", "ushirogami"),
        "hair": (
            *("hair", "side hair", "ponytail", "pony tail", "twintail", "twin tail", "braid"),
            *("side tail", "pigtail", "yokogami", "kaminoke"),
        ),
        "headwear": (
            *("hair pin", "hair band", "hair clip", "hair ribbon", "hair ornament", "hair bow"),
            *("hair accessory", "hair tie", "hair flower", "head band", "head dress", "head phone"),
            *("hat", "helmet", "crown", "tiara", "beret", "halo", "headwear"),
        ),
        "face": ("face", "cheek", "blush", "chin", "hoho"),
        "irides": (
            *("iris", "irides", "pupil", "eye ball", "eye highlight", "eye light", "hitomi"),
        ),
        "eyebrow": ("eye brow", "brow", "mayu", "mayuge"),
        "eyewhite": ("eye white", "white eye", "sclera", "shirome", "eye bg", "eye background"),
        "eyelash": ("eye lash", "lash", "eye liner", "matsuge"),
        "eyes": ("eye",),
        "eyewear": ("glasses", "sunglasses", "eyewear", "goggle", "monocle", "eye patch", "megane"),
        "ears": ("ear", "mimi"),
        "earwear": ("ear ring", "ear cuff", "ear phone", "earwear", "ear accessory"),
        "nose": ("nose",),
        "mouth": ("mouth", "lip", "tooth", "teeth", "tongue", "oral", "kuchi"),
        "neck": ("neck", "kubi"),
        "neckwear": (
            *("neck tie", "neck lace", "neck ribbon", "choker", "scarf", "muffler"),
            *("bow tie", "neckwear"),
        ),
        "topwear": (
            *("shirt", "jacket", "coat", "blouse", "sweater", "hoodie", "vest", "dress", "topwear"),
            *("cardigan", "kimono", "cape", "cloak", "corset", "t shirt"),
        ),
        "handwear": ("arm", "hand", "finger", "glove", "sleeve", "wrist", "elbow", "handwear"),
        "bottomwear": ("skirt", "pants", "trousers", "jeans", "bottomwear"),
        "legwear": ("leg", "thigh", "knee", "sock", "stocking", "tights", "pantyhose", "legwear"),
        "footwear": ("foot", "feet", "shoe", "boot", "sandal", "heel", "footwear", "kutsu"),
        "tail": ("tail", "shippo"),
        "wings": ("wing",),
        "objects": ("weapon", "sword", "staff", "wand", "gun", "umbrella", "object"),
    },
    LIKELY: {
        "headwear": ("cap", "horn", "hood", "veil"),
        "face": ("tear", "sweat"),
        "neckwear": ("tie", "collar"),
        "topwear": ("uniform", "clothes", "cloth", "outfit"),
        "bottomwear": ("shorts", "waist", "hip"),
        "objects": ("bag", "prop", "book"),
    },
    GUESS: {
        "eyelash": ("eye lid",),
        "topwear": ("body", "torso", "chest", "breast", "bust", "shoulder", "karada"),
    },
}
"""Phrases of whole words, in any order; a plural s may follow a word."""

JAPANESE: dict[float, Names] = {
    SURE: {
        "front hair": ("前髪", "前发", "刘海", "アホ毛", "あほ毛"),
        "back hair": ("後ろ髪", "後髪", "うしろ髪", "后发", "襟足"),
        "hair": (
            *("髪", "横髪", "サイド髪", "もみあげ", "髪の毛", "头发", "ツインテール", "ツインテ"),
            *("ポニーテール", "ポニテ", "三つ編み", "おさげ"),
        ),
        "headwear": (
            *("帽子", "ヘアピン", "髪飾り", "髪留め", "カチューシャ", "ヘアバンド", "ヘッドドレス"),
            *("王冠", "ティアラ", "ヘッドホン", "ヘルメット", "ベレー"),
        ),
        "face": ("顔", "頬", "ほほ", "ほっぺ", "チーク", "輪郭", "脸"),
        "irides": ("黒目", "瞳", "目玉", "虹彩", "瞳孔", "眼球", "目ハイライト"),
        "eyebrow": ("眉", "眉毛", "まゆ", "まゆ毛"),
        "eyewhite": ("白目", "眼白", "しろめ"),
        "eyelash": ("まつ毛", "まつげ", "睫毛", "睫", "アイライン"),
        "eyes": ("目", "眼", "眼睛"),
        "eyewear": ("眼鏡", "メガネ", "めがね", "サングラス", "ゴーグル", "眼帯", "眼镜"),
        "ears": ("耳", "獣耳", "ケモ耳", "耳朵"),
        "earwear": ("イヤリング", "ピアス", "耳飾り", "イヤホン"),
        "nose": ("鼻",),
        "mouth": ("口", "口内", "口角", "唇", "くちびる", "歯", "舌", "嘴"),
        "neck": ("首", "脖子"),
        "neckwear": (
            *("首輪", "首飾り", "チョーカー", "ネクタイ", "マフラー", "スカーフ", "ネックレス"),
            *("蝶ネクタイ", "リボンタイ"),
        ),
        "topwear": (
            *("上着", "シャツ", "ジャケット", "コート", "ワンピース", "ドレス", "セーター"),
            *("ブラウス", "パーカー", "ベスト", "着物", "羽織", "マント", "上衣"),
        ),
        "handwear": ("腕", "手", "指", "袖", "手首", "手袋", "手臂", "グローブ", "袖口"),
        "bottomwear": ("スカート", "ズボン", "裙子", "裤子", "パンツ"),
        "legwear": (
            *("足", "脚", "太もも", "ふともも", "足首", "靴下", "ソックス", "タイツ", "ニーソ"),
            *("ストッキング", "腿"),
        ),
        "footwear": ("靴", "ブーツ", "くつ", "サンダル", "鞋", "足先", "足指", "足の指"),
        "tail": ("尻尾", "しっぽ", "尾巴"),
        "wings": ("翼", "羽", "羽根", "翅膀"),
        "objects": ("武器", "剣", "杖", "持ち物", "傘"),
    },
    LIKELY: {
        "headwear": ("角", "フード", "头饰"),
        "face": ("涙", "汗", "照れ"),
        "neckwear": ("襟", "衿"),
        "topwear": ("制服", "服", "衣装"),
        "bottomwear": ("腰", "下半身"),
        "objects": ("小物", "鞄", "バッグ"),
    },
    GUESS: {
        "eyelash": ("まぶた", "瞼", "二重"),
        "topwear": ("体", "身体", "胴", "胴体", "胸", "上半身", "肩", "からだ"),
    },
}
"""Names of scripts without spaces, found anywhere in a name; the longest is taken first, and what
it covers is not read again."""

SILENT = (
    "下絵",
    "頭部",
    "頭",
    "コア",
    "目安",
    "見本",
    "体験",
    "大人",
    "本体",
    "手前",
    "耳元",
    "口元",
)
"""Names that hold another's letters and mean nothing; they are taken out first."""
