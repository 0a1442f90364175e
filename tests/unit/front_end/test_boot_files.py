"""What a start loads, read out of a loader as rspack writes it."""

from __future__ import annotations

from taccuino.front_end.boot_files import boot_files

MAIN = (
    'n.p=a("fullStaticUrl")+"/";let m=(await Promise.all([t.e(5),t.e(21),t.e(7)])'
    ".then(t.bind(t,8))).main;"
    '__webpack_require__.u=e=>""+(5===e?"jlab_core":e)+"."+({21:"aa"})[e]+".js?v=";'
    '__webpack_require__.consumesLoadingData={chunkMapping:{21:["100"],7:["200","300"],30:["100"],'
    '99:["400"]},moduleIdToConsumeDataMapping:{'
    '100:{shareScope:"default",shareKey:"a",fallback:()=>Promise.all([__webpack_require__.e(30),'
    "__webpack_require__.e(31)]).then(()=>()=>__webpack_require__(1)),treeShakingMode:null},"
    '200:{shareScope:"default",shareKey:"b",fallback:()=>__webpack_require__.e(32)'
    ".then(()=>()=>__webpack_require__(2)),treeShakingMode:null},"
    '300:{shareScope:"default",shareKey:"c",fallback:()=>Promise.all([__webpack_require__.e(5)])'
    ".then(()=>()=>__webpack_require__(3))},"
    '400:{shareScope:"default",shareKey:"d",fallback:()=>__webpack_require__.e(98)'
    ".then(()=>()=>__webpack_require__(4))}},initialConsumes:[]};"
)
NAMES = [
    "jlab_core.0a.js",
    *(f"{chunk}.{chunk}ff.js" for chunk in (21, 7, 30, 31, 32, 98, 99)),
    "21.aa.js.gz",
    "32.woff2",
]


def test_the_first_chunks_and_what_their_modules_come_with() -> None:
    assert boot_files(MAIN, NAMES) == [
        "jlab_core.0a.js",
        "21.21ff.js",
        "7.7ff.js",
        "30.30ff.js",
        "31.31ff.js",
        "32.32ff.js",
    ]


def test_a_loader_of_another_form_is_no_error() -> None:
    assert boot_files("require(['main'])", NAMES) == []
    assert boot_files("consumesLoadingData={", NAMES) == []
    assert boot_files(MAIN, []) == []
