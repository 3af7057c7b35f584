"""The Kodak photographs: found in `$IQA_DATA/kodak`, or downloaded once (15 MB), and checked by
their pixels.

24 lossless images of 768 x 512 or 512 x 768 pixels, released by Kodak for unrestricted use. Mirrors
compress the PNG files anew, so not the files but the decoded pixels are compared with the hashes
below.
"""

from __future__ import annotations

import hashlib
import shutil
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from data_download.fetch import DownloadError, Unavailable, answers, downloads, fetch, mirrored
from data_download.tables import DatasetError
from iqa_core import files

HOME = "https://r0k.us/graphics/kodak/"
SOURCES = (
    HOME + "kodak/kodim{0:02d}.png",
    "https://raw.githubusercontent.com/imazen/codec-corpus/"
    "00ed9dd71c102d9ef45a1a77c367a002fa5ce8d7/kodak/{0}.png",
)

# sha256 of the decoded pixels, (H, W, 3) uint8, of kodim01 to kodim24
SHA256 = (
    "a00210743353594464ac67e680a41710f484444ca5f9dfddeb570de25c428273",
    "ae5a495df4ec40e0941265440ccf98973915b4190ab803e37a23ca93dd43a07e",
    "234e61f585503f2a44400f5561131e8a512ef2c15328cd83d5cdbf10e2616cf2",
    "e88e788fca00e6c723bb66ff45edb8cb56091ee284dcb73e3909834f2c96eeb6",
    "ed3d1ee770909d3b27903b52ce19ee59a9bf24621a7bf1fb57b90677da880cb6",
    "7f45158999fa297d1cfbd292b3e2f3f5b27770701c3473155c211c3f512cc97f",
    "4e3664bf6fe865b49f15f7b554efa7dbecaf73ae0e8699f2e307bf07849f1264",
    "889c3740e4ed54ca53d11ae735a44d15fa24fe312b3bd1609a80618a4092c208",
    "f8453140e63a42301a6dbebb849a3cc40d34e4e59580eb1f372f7f5460df0dbe",
    "fabe11b5c4f028394e093a5b5907e5fabc8072da0d5334fb3a38547a7e1be842",
    "ab4dd9bf8431e717d33892b3ba03c63bfea3c7fa72c2610010de7df3c194c075",
    "f412db2168e599949aac26bd3264f111b23a684f30a21cfd320e9e95bc69bbae",
    "875703d56fb9396f478b5d7d3b18e2b77c17147a685c6dc2567e1c574aaf01e3",
    "2bd5029ee75ac1697542e5b05624e8afe186e3250abd7513d6a806b52084c2f0",
    "b5353e7511277009922ecbdebfc6418fec53aa1b2a08d44fc957a7540825697b",
    "ed21745fd32fce95cc2c6af7fc52b1b15e590c7a14ab18ab34bd65ecaf955ac7",
    "566bc866664e9b06dc86e2654051b454844efe17322dbf7e24156d8243f1943e",
    "3475af71066f3ca8206eb12cfc989ebe9c6e44820a96604e88ae018606e1f7bd",
    "7956408ef24222d37ac53f579bd24d5b2c3557b16c657e8b71c1b6ae9f18de1b",
    "666ce8f2db5566a123bb081e70618f6f4c4253df960f3b41bb9dcc3dd134f3cf",
    "2d6902daf7c4486b7c8c04d834091841a2b38c8f0c81cd7a963a6510b34a2a6a",
    "f430842120c108b67725ada96b8b7b2a914f6a0915eacd5595064c6c1a5d70a0",
    "81992a83592267e69125666f3e3e04c1819529b4c4c1e55fde0a6a741bac4219",
    "e3e3ccc3e795b82a3da66934409dfe98ce0f5aadc6d7767543c506453599bb98",
)


class KodakUnavailable(DatasetError):
    """The Kodak photographs cannot be used. The message says why and what to do. A caller may go
    without."""


def read(folder: str | Path, number: int) -> np.ndarray:
    """Kodak photograph `number` (1 to 24) of a folder: uint8 (H, W, 3), its pixels checked.

    Raises:
        KodakUnavailable: the file is missing, broken or another image. The message names it.
    """
    path = Path(folder) / f"kodim{number:02d}.png"
    if not path.is_file():
        raise KodakUnavailable(
            f"{path}: no such file. Place Kodak photograph {number} from {HOME} there."
        )
    try:
        return _pixels(number, path)
    except ValueError as error:
        raise KodakUnavailable(
            f"{path}: {error}. Replace it by the lossless image from {HOME}."
        ) from error


def _pixels(number: int, path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
    except Exception as error:  # Pillow raises many kinds; all mean the same to the reader
        raise ValueError(f"photograph {number} cannot be read as an image ({error})") from error
    if hashlib.sha256(pixels.tobytes()).hexdigest() != SHA256[number - 1]:
        raise ValueError(f"its pixels are not those of Kodak photograph {number}")
    return pixels


def kodak_folder() -> Path | None:
    """The folder `$IQA_DATA/kodak` if it holds kodim01.png to kodim24.png; None if there is no such
    folder.

    Raises:
        KodakUnavailable: the folder is there, but an image is missing. The message names the image.
    """
    folder = files.data_root() / "kodak"
    if not folder.is_dir():
        return None
    for number in range(1, 25):
        path = folder / f"kodim{number:02d}.png"
        if not path.is_file():
            raise KodakUnavailable(
                f"{path}: no such file. Place Kodak photograph {number} from {HOME} "
                "there, or remove the folder to download all 24."
            )
    return folder


def fetch_kodak(progress: bool = True) -> Path:
    """The folder of the 24 photographs; downloads them (15 MB) if they are not there.

    Either all 24 images arrive, with the right pixels, or the folder is not made.

    Raises:
        KodakUnavailable: no network, or no right images. The message says where to place them by
            hand.
    """
    folder = kodak_folder()
    if folder is not None:
        return folder
    folder = files.data_root() / "kodak"
    sources = [source for source in SOURCES if answers(source.format(1))]
    reason = "no network"
    try:
        if sources or mirrored("kodak", ""):
            files.prepare(folder, lambda temporary: _download(temporary, sources, progress))
            shutil.rmtree(downloads("kodak"), ignore_errors=True)
            return folder
    except (OSError, DownloadError) as error:
        reason = error.why if isinstance(error, Unavailable) else str(error).rstrip(".")
    raise KodakUnavailable(
        f"The Kodak photographs could not be downloaded ({reason}). Place them by hand as "
        f"{folder / 'kodim01.png'} ... kodim24.png, from {HOME}."
    )


def _download(folder: Path, sources: list[str], progress: bool) -> None:
    """Every photograph, from the first source that delivers the right pixels."""
    for number in files.progress(range(1, 25), "Kodak", show=progress, unit="image"):
        name = f"kodim{number:02d}.png"
        urls = mirrored("kodak", name) + [source.format(number) for source in sources]
        shutil.copy(
            fetch(urls, downloads("kodak") / name, verify=partial(_pixels, number), progress=False),
            folder,
        )
