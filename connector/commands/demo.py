async def demo(**_kw: object) -> int:
    return 1
